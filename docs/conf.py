"""Sphinx's settings for the site that `make docs` builds (docs/pages.py writes its pages). Nothing is fetched."""

project = "recipe-runner"
author = "the authors of recipe-runner"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "recipe-runner"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False
myst_heading_anchors = 4
smartquotes = False  # a quotation mark that is a value stays as it must be typed
nitpicky = True
