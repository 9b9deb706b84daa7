"Names of files that mean harm to a page."

HOSTILE = [
    "<script>alert(1)</script>.mp3",
    "\"><img src=x onerror='alert(1)'>.png",
    "</script><script>alert(1)</script>.png",
    "\u2028\u202egnp.exe",
    "--><!--.png",
    "' onfocus=alert(1) autofocus x='.png",
    "&lt;b&gt;.png",
]
