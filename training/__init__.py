"""How the embedded encoders were made: data, text tower, training, export and evaluation."""
