"""What a user who trains needs; `train/x.py` trains `x`."""
