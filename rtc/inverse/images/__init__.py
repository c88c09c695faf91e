"""Priors of images: one small U-Net and its training, digits, and a denoiser of photographs."""
