"""Packaging. `properties/` lies at top level, as in RecBole's other plug-ins, and is installed inside the package."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
README = HERE / "README.md"

setup(
    name="recbole_recfound",
    version=re.search(r'__version__ = "(.+)"', (HERE / "recbole_recfound" / "__init__.py").read_text())[1],
    description="An LLM plug-in for RecBole 1.2.1: train a language model on atomic files, compare it in one table",
    long_description=README.read_text(encoding="utf-8") if README.is_file() else "",
    long_description_content_type="text/markdown",
    # 3.11: the least that transformers 5 wants, and the last for which ray 2.6.3 (which RecBole 1.2.1 wants) has wheels
    python_requires=">=3.11,<3.12",
    packages=[*find_packages(include=["recbole_recfound", "recbole_recfound.*"]), "recbole_recfound.properties"],
    package_dir={"recbole_recfound.properties": "properties"},
    package_data={
        "recbole_recfound": ["**/*.j2", "serving/http/page.*", "py.typed"],
        "recbole_recfound.properties": ["**/*.yaml"],
    },
    install_requires=[
        "recbole==1.2.1",
        "torch>=2.6,<3",
        "transformers>=5.2,<6",
        "peft>=0.18,<1",
        "accelerate>=1.10,<2",
        "filelock>=3.12",
        "gguf>=0.10",
        "huggingface-hub>=1.0",
        "safetensors>=0.4",
        "jinja2>=3.1",
        "matplotlib>=3.7",
        "numpy>=1.26",
        "pandas>=2.0",
        "pyyaml>=6.0",
        "rouge-score>=0.1.2",
        "sacrebleu>=2.4",
        "scikit-learn>=1.2",
        "scipy>=1.11",
        "tqdm>=4.60",
    ],
    # setuptools: the tests build a wheel
    extras_require={
        "bertscore": ["bert-score>=0.3.13"],
        "deepspeed": ["deepspeed>=0.19.8"],
        "export": ["sentence-transformers>=5.7", "onnx>=1.18", "onnxscript>=0.5", "onnxruntime>=1.20"],
        "index": ["faiss-cpu>=1.8"],
        "parquet": ["pyarrow>=14"],
        "qlora": ["bitsandbytes>=0.46"],
        "serve": ["fastapi>=0.115", "uvicorn>=0.37"],
        "tune": ["optuna>=4.4"],
        "test": [
            "pytest>=8",
            "pytest-xdist>=3.6",
            "hypothesis>=6.80",
            "setuptools>=70.1",
            "bert-score>=0.3.13",
            "faiss-cpu>=1.8",
            "fastapi>=0.115",
            "httpx>=0.27",
            "hyperopt>=0.2.7",
            "onnx>=1.18",
            "onnxruntime>=1.20",
            "onnxscript>=0.5",
            "optuna>=4.4",
            "pyarrow>=14",
            "sentence-transformers>=5.7",
            "uvicorn>=0.37",
        ],
        "slow": ["deepspeed>=0.19.8", "playwright>=1.48", "schemathesis>=4.0"],
        "quality": [
            "ruff>=0.17,<0.18",
            "mypy>=2.4,<2.5",
            "import-linter>=2.3",
            "pandas-stubs",
            "scipy-stubs",
            "types-PyYAML",
            "types-tqdm",
        ],
        "docs": ["mkdocs>=1.6", "mkdocs-material>=9.5"],
    },
    license="MIT",
    keywords="recommender systems, large language models, RecBole, multi-task learning, LoRA, mixture of experts",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: GPU :: NVIDIA CUDA",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Typing :: Typed",
    ],
    entry_points={"console_scripts": ["recfound = recbole_recfound.cli:main"]},
)
