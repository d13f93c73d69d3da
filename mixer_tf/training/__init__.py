"""What a training is made of: its step, its optimizer, what it saves, how it ends."""
