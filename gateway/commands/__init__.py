"""Commands that look at a gateway from outside, or help to set one up."""
