#!/usr/bin/env python3
"""Records conversations rendered by llama.cpp's built-in templates: python builtin.py, with llama-cpp-python 0.3.36.

llama.cpp has no template for Alpaca; the test itself compares that one with the prompt of its authors.
"""
import ctypes, json
from llama_cpp import llama_cpp as c

NAMES = {"llama3": b"llama3", "chatml": b"chatml", "phi3": b"phi3", "gemma": b"gemma", "mistral": b"mistral-v3"}
CASES = [
    [("user", "Hi")],
    [("system", "Be brief."), ("user", "Hi\nthere")],
    [("user", "One"), ("assistant", "1"), ("user", "Two")],
    [("system", "Count."), ("user", "One"), ("assistant", "1"), ("user", "Two "), ("assistant", " 2"), ("user", "Three")],
]
out = []
for name, theirs in NAMES.items():
    for case in CASES:
        for generation_prompt in (True, False):
            chat = (c.llama_chat_message * len(case))()
            for message, (role, content) in zip(chat, case):
                message.role, message.content = role.encode(), content.encode()
            buffer = ctypes.create_string_buffer(4096)
            n = c.llama_chat_apply_template(theirs, chat, len(case), generation_prompt, buffer, 4096)
            assert n > 0, name
            messages = [{"role": role, "content": content} for role, content in case]
            out.append({"template": name, "messages": messages, "add_generation_prompt": generation_prompt,
                        "expected": buffer.raw[:n].decode()})
with open("builtin.json", "w") as file:
    json.dump(out, file, indent=1, ensure_ascii=False)
    file.write("\n")
