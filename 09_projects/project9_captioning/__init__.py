"""From pictures to sentences about them, in English and Korean, with a page that shows where the network looked for each word."""
