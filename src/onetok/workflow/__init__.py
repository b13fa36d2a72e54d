"""The workflow's environment, its machine profile and prerequisites, and its reports of failures."""
