"""A study of one's own images: `onetok new` looks at a folder and writes the params that fit what is in it."""
