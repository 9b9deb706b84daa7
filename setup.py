"For tools that still look for a setup.py: all there is to know is in pyproject.toml."

from setuptools import setup

setup()
