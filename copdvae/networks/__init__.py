from copdvae.networks.vae import VAE, NetworkConfig

__all__ = ["VAE", "NetworkConfig"]
