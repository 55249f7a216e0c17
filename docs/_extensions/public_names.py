"""Links to public names from anywhere: a docstring writes `fit`, and the page documents ``tvb_jaxfit.fit``."""

import tvb_jaxfit


def _resolve(app, env, node, contnode):
    name = node.get("reftarget", "")
    if node.get("refdomain") != "py" or name.partition(".")[0] not in tvb_jaxfit.__all__:
        return None
    domain = env.get_domain("py")
    return domain.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], f"tvb_jaxfit.{name}", node, contnode)


def setup(app):
    """Look public names up again that Sphinx has not found."""
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
