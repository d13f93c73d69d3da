"""From a folder or a zip to pixels, and what could not be used."""
