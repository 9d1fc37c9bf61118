"""Interpreters of the environments that have imported what a process of ours imports first, and fork for each.

Importing torch, transformers and a backend takes 10 to 25 CPU-seconds, most of what a training of two steps costs, and
the real tests start hundreds of processes. With RECIPE_WRAP the runner starts each through client.py, which has an
interpreter that server.py has started with the same environment variables fork, and passes on what the process is
given: arguments, variables, working directory, files, signals; and gives back how it ends. A test marked `cold` starts
processes as a user does, and so do all under RECIPE_COLD=1.
"""
