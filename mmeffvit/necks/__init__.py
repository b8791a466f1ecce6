"""Between a backbone and a head; torch and mmengine only."""
