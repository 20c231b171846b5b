"""Repositories of the Hugging Face hub, by ``huggingface_hub``, and the model card."""
