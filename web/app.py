"""The script that Streamlit runs: it chooses the page."""

# Nothing is imported here: a child process runs this file once more under another name.


def main() -> None:
    """Shows the page that the address names."""
    from pathlib import Path

    import streamlit as st

    st.set_page_config("sightstream", Path(__file__).with_name("icon.svg"), layout="wide")
    page = st.navigation(
        [
            st.Page("classify.py", title="Classify", icon=":material/image_search:", default=True),
            st.Page("live.py", title="Live", icon=":material/stream:"),
            st.Page("models.py", title="Models", icon=":material/model_training:"),
            st.Page("label.py", title="Label", icon=":material/label:"),
        ],
        position="top",
    )
    page.run()


if __name__ == "__main__":
    main()
