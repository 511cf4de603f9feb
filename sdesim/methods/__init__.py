"""Time-stepping methods: one pure function each, with its orders and source as data."""
