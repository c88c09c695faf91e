"""What benchmarks/peers.py compares: one problem, given to three packages through their own interfaces."""
