"""One self-contained HTML page and a model card from the files that the stages wrote.

    page.py        what the page says, rendered through page.html.j2
    judgement.py   tables: the accepted run, slices, protocols, drift, relations
    figures.py     matplotlib -> inline SVG that follows the page's light or dark colours
    pictures.py    the worst mistakes as small JPEGs inside the page
    model_card.py  the Markdown card

To add a section: a block in page.html.j2 and, when it needs a figure, one function in figures.py.
"""
