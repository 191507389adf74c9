"""What a measurement ran on, for the files that keep it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

import copdvae


def machine() -> dict:
    """Processor, cores (of the machine, and those that this process may use), load, GPU, versions."""
    import torch

    names = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    packages = ("torch", "monai", "numpy", "pandas", "scikit-learn", "SimpleITK", "pydicom", "pyspiro")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)),
        "load": [round(value, 1) for value in os.getloadavg()],  # of 1, 5 and 15 minutes, over all cores of the machine
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "copdvae": copdvae.__version__,
        **{name: version(name) for name in packages},
    }
