"""Fused kernels generated from models and methods: LLVM on the CPU, CUDA C on the GPU."""
