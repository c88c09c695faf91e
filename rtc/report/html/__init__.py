"""One HTML page of a finished sweep: a single file that opens from disk and asks nobody for anything.

The charts are SVG that a template draws here. Libraries that draw in the browser (plotly, Vega, Bokeh) show
nothing without JavaScript and bring up to several megabytes of it; those that draw here (matplotlib, pygal)
fix the colours and the size of the letters when they draw, and neither dark mode nor a phone can change them.
"""
