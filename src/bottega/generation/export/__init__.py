"""Models of the workshop written for other programs: `bottega export MODEL --to hf|gguf|ollama -o FOLDER`.

    folder.py      opens a model and writes a Hugging Face folder
    gguf.py        its weights as llama.cpp reads them
    vocabulary.py  its tokens as llama.cpp reads them
    ollama.py      a Modelfile beside the GGUF file
"""
