"""Torch without HTTP: bytes become a request, a plan, a run, a report, and bytes again.

    job ────────── the door: every error a problem, limits within bounds
     ├ in ──────── json_text number_array long_values safetensors_file: bytes to parsed JSON
     │             check quick_check form_words: parsed JSON to a request of the right form
     │             tensors read_tensor: what a leaf says to a tensor
     ├ plan ────── ops in an order, on slots; known_graphs keeps plans that came before
     │  ├ bind ─── one call against its signatures: values indexing template writes guards
     │  └ catalogue  what may be called: gate operation handmade kernels, with
     │               signature from_schema from_function summary ops_page to describe it
     ├ run ─────── forward, retain_grad, backward; heard: an exact overload's warnings
     ├ report ──── statuses and what was asked for: graph notes stats edges
     │  └ health ─ a diagnosis from a second run: linked nonfinite gradient_flow
     └ out ─────── write_tensor small_tensors halves: tensors to text

``dtypes`` are the element types, ``limits`` what one request may take.
"""
