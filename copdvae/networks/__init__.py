from copdvae.networks.config import NetworkConfig
from copdvae.networks.vae import VAE

__all__ = ["VAE", "NetworkConfig"]
