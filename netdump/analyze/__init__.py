"""What a dump says about itself: why the machine died, which pages there are and where, how large it would be."""
