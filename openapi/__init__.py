"""The OpenAPI document, what makes SDKs of it, and what makes its examples."""
