"""What a visitor has chosen, the same in every tab: Streamlit forgets a widget's value when its tab is left.

chosen.start("compare_colours", "colours", PALETTES)   # before the widget is made
chosen.keep("colours", st.selectbox(..., key="compare_colours"))
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import streamlit as st

T = TypeVar("T")


def get(name: str, otherwise: Any = None) -> Any:
    """What was chosen last under this name, in any tab, or by the address."""
    return _all().get(name, otherwise)


def keep(name: str, value: T) -> T:
    """Remember the value, and give it back."""
    _all()[name] = value
    return value


def start(key: str, name: str, options: Sequence[Any] | Callable[[Any], bool], otherwise: Any = None) -> None:
    """Let the widget of this key begin with what was chosen under the name; where that is none of `options`, or they
    say no to it, with `otherwise`, or the first of them."""
    fits = options if callable(options) else options.__contains__
    first = otherwise if callable(options) or otherwise is not None else options[0]
    if key not in st.session_state or not fits(st.session_state[key]):
        value = get(name, first)
        st.session_state[key] = value if fits(value) else first


def one_of(widget: Callable[..., T], label: str, options: Sequence[T], name: str, key: str, **how: Any) -> T:
    """A widget of options, such as `st.selectbox`, whose value all tabs share under a name."""
    start(key, name, options)
    return keep(name, widget(label, options, key=key, **how))


def slider(
    label: str, least: float, most: float, step: float, otherwise: float, name: str, key: str
) -> float:
    """A slider whose value all tabs share under a name."""
    start(key, name, lambda value: isinstance(value, int | float) and least <= value <= most, otherwise)
    st.session_state[key] = type(otherwise)(st.session_state[key])
    return keep(name, st.slider(label, least, most, step=step, key=key))


def _all() -> dict[str, Any]:
    return st.session_state.setdefault("chosen", {})
