"""What the site of documentation has that nobody writes: fields of kinds, commands, settings.

``hook.py`` gives the pages to mkdocs; nothing of them is kept in the repository, so nothing goes stale.
"""
