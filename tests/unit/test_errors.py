import inspect
import pickle

from umbel import errors


def test_the_tree_in_the_docstring_is_the_tree():
    classes = {name for name, thing in vars(errors).items() if inspect.isclass(thing) and issubclass(thing, Exception)}
    drawn = {word for word in (errors.__doc__ or "").split() if word.endswith("Error")}
    assert drawn == classes
    assert all(issubclass(getattr(errors, name), errors.UmbelError) for name in classes)


def test_input_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(errors.FastaError("it is empty.", "a.fa", 3)))
    assert (str(error), error.line, type(error)) == ("a.fa, line 3: it is empty.", 3, errors.FastaError)
