"""Several hosts and devices: how they meet, what they agree on, how one is given up."""
