"""Reading models from disk: nothing is copied, nothing is executed, and a broken file is one clear line.

* ``reader.py`` is a model folder: names, shapes, dtypes, tensors on demand, fingerprints; it uses all of the others.
* ``safetensors_file.py`` reads headers of safetensors files and checks them.
* ``torch_pickle.py`` reads ``.bin`` files where the user allows it, tensors only.
* ``lora.py`` folds an adapter into the tensors it targets.
* ``symlinks.py`` refuses links that lead out of a model folder; ``truncation.py`` tells of files that were cut off.
* ``tokenizer.py`` builds the vocabulary of a result from its parents'; ``chat_template.py`` chooses its template.
"""
