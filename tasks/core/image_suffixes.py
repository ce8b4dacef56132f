"""What counts as an image by its name. Imports nothing: a machine that only predicts reads it too."""

IMAGE_SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".heic", ".heif", ".hif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jxl", ".mpo"),
    *(".png", ".ppm", ".tif", ".tiff", ".webp"),
)
"""Lower case. Files that a folder is searched for; what they really hold is found out when they are opened."""
