"""How fast and how large we are beside what people use now, every comparison paired in one run: `make bench`."""
