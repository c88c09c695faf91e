"""Studies and timings over library functions; never their own implementation of a method."""
