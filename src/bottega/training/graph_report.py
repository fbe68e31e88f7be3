"""x"""
from pathlib import Path
def write(bundle, dataset, home): return Path("none")
