"""Workers of a sweep: the engines that start such processes, and the one that waits for them."""
