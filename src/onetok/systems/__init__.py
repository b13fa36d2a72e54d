"""The systems of the papers, a folder each.

A folder has the model as its paper draws it (model.py and pages beside it), its sampler where it has one of its own
(sampling.py), its params with their checks (schema.py, without torch), its released layout (release.py), and what the
rest of the project needs to know of it (system.py). A new system is a folder, a line here, and params files.
"""

# In the order in which pages list them. Modules, so that a system may also live in another package.
SYSTEMS = [
    "onetok.systems.vqgan",
    "onetok.systems.titok",
    "onetok.systems.tatitok",
    "onetok.systems.maskgit",
    "onetok.systems.rar",
    "onetok.systems.maskgen",
    "onetok.systems.flowtok",
]
