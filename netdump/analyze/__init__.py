"""What a dump says about itself: today the panic line, from the kernel log of its headline."""
