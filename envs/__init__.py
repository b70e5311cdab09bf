"""Markets: batched dynamics as tensors, and their answer keys. Imports torch, numpy and gymnasium,
never ray."""
