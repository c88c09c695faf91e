"""The robot wing: what happens between the chunks."""
