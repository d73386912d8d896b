"""Other languages for a graph: Python source and exported programs.

Three ways in and out, each with a door of its own name:

    from_python    a script is read by its syntax, never executed
        syntax        statements assignments expressions classes, with scopes, names, unreadable
        values        values objects reading: what an expression can be, and the state of the reader
        Python's own  folding formatting builtins_read effects (what may be left out)
        calls         calls attributes methods operators, with arguments to bind them
        one op        operations adds it to the graph, with what is known of its result:
                      element_types(_tables) default_dtype shapes(_rules) parts
        leaves        leaves, and what changes in place: in_place
        backward      passes saved, gradients (what .grad is), optimizers
        nn            layers parameters recorded initialisers: modules of torch.nn;
                      modules members registration module_methods module_calls: what holds them
    to_python      the engine's plan is written down: literals, exported (functions it brings along)
    from_export    a program of torch.export: exported_graph exported_leaves exported_arguments
                   exported_run (what only a run tells), cells (writes in place as ops)
"""
