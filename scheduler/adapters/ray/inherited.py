"""What processes of gangs inherit of their node's environment: what is named here, and nothing else.

An agent's environment holds what its administrator exported: tokens of hubs and clouds, passwords in URLs.
Processes that work for tenants have no business with them. Endpoints and Workloads name what they need in
their own ``env``, which only a platform-admin writes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

NAMES = frozenset(
    (
        # of the system
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "XDG_CACHE_HOME"),
        # of Python
        *("PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "VIRTUAL_ENV"),
        # of certificates
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        # of model hubs: where they are and where their files are kept, never who asks
        *("HF_HOME", "HF_HUB_CACHE", "HF_ENDPOINT", "HF_HUB_OFFLINE", "VLLM_CACHE_ROOT", "TORCH_HOME"),
        *("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "MODELSCOPE_CACHE"),
    )
)
PREFIXES = (
    "LC_",
    # of numerical libraries
    *("OPENBLAS_", "MKL_", "KMP_", "GOMP_", "NUMEXPR_", "MALLOC_"),
    # of vendors' drivers, compilers and collective libraries
    *("CUDA_", "NVIDIA_", "NCCL_", "CUBLAS_", "CUDNN_", "GLOO_", "UCX_"),
    *("ASCEND_", "HCCL_", "ATB_", "LCCL_", "TOOLCHAIN_", "OPP_"),
    *("ROCM_", "ROCR_", "HIP_", "HSA_", "RCCL_", "MIOPEN_"),
    *("CNRT_", "CNCL_", "NEUWARE_", "MUSA_", "MCCL_", "MACA_", "DTK_"),
)
_SECRET_PARTS = ("TOKEN", "SECRET", "PASSWORD", "CREDENTIAL", "API_KEY")
"""No prefix lets such a variable through."""


def inherited(environment: Mapping[str, str], further: Collection[str] = ()) -> dict[str, str]:
    """The part of ``environment`` that gangs get. ``further``: names that the platform's settings add."""
    return {
        name: value
        for name, value in environment.items()
        if name in NAMES or name in further or (name.startswith(PREFIXES) and not _is_secret(name))
    }


def _is_secret(name: str) -> bool:
    return any(part in name for part in _SECRET_PARTS)
