"""One request from end to end: who asks, may they, what is answered, what it cost, and that it is written down."""
