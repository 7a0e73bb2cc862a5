"""The page of `foclip app`, on Gradio: it shows what `core`, `runs` and `reports` do, and bounds what visitors ask."""
