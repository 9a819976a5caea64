"""Sphinx extension: where the book is published, from the one place that says so, if it does.

That is `Repository` among the urls of pyproject.toml. While it is not there, no page has a button
or a link to it. When it is, the pages are expected on GitHub Pages, and a branch `notebooks` has
the chapters as they are offered for download, for Colab and Binder to open; a workflow makes both.
"""

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def repository(project=PROJECT) -> str:
    """Return the address of the repository, or nothing."""
    about = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    return about.get("urls", {}).get("Repository", "")


def options(url: str) -> dict:
    """Return the theme's options for a repository: buttons that lead there, or none."""
    if not url:
        return {"use_repository_button": False, "use_issues_button": False, "launch_buttons": {}}
    return {
        "repository_url": url,
        "repository_branch": "notebooks",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {
            "notebook_interface": "jupyterlab",
            "binderhub_url": "https://mybinder.org",
            "colab_url": "https://colab.research.google.com",
        },
    }


def site(url: str) -> str:
    """Return the address of the pages that belong to a repository, or nothing."""
    owner, _, name = urlsplit(url).path.strip("/").partition("/")
    return f"https://{owner}.github.io/{name}/" if url else ""


def configure(app, config):
    """Tell the theme, and the pages themselves, where they are."""
    url = repository()
    config.html_theme_options = config.html_theme_options | options(url)
    config.html_baseurl = site(url)


def setup(app):
    """Register the extension with Sphinx."""
    app.connect("config-inited", configure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
