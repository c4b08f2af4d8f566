"""Pure decisions: machines that turn inputs into facts and effects. No clock, socket, thread or randomness."""
