"""A rollout as trainers run it: worker actors, vLLM servers that find them by name, and a chat scheduler before them.

After verl#1138: ``workers`` are Ray actors that hold the model, ``executor`` lets a vLLM engine run on them,
``server`` is an AsyncLLM behind OpenAI-compatible routes in an actor, ``manager`` starts and finds the servers, and
``scheduler`` sends multi-turn conversations to them.
"""
