"""Files with pictures in them: decoding, checks, perceptual hashes, duplicates, and the packed training images.

checks            open every file once: hash, size, quarantine
decode            bytes -> 8-bit RGB, the one way in which anything here looks at an image
jpeg              plain JPEGs to pixels and back, for speed
stored_pixels     the pixels that training and serving start from
hashing           the 64-bit perceptual hash
near_duplicates   groups of equal and nearly equal images, and labels on which their members disagree
shards            training-size images in a few memory-mapped files
"""
