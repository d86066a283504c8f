"""``atlas.html``: an atlas as one page that needs nothing else; every sentence and colour comes from its numbers."""

from umbel.evaluate.experts.page.rendering import PAGE_FILE, render_atlas, write_atlas_page

__all__ = ["PAGE_FILE", "render_atlas", "write_atlas_page"]
